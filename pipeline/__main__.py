"""Entry point of the command `trtllm-pack`."""

from pipeline.cli import main

if __name__ == "__main__":
    main()
