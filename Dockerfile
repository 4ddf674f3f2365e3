# syntax=docker/dockerfile:1
#
#   docker build -t trtllm-pack .                             the CPU image: everything but `trtllm`
#   docker build -t trtllm-pack:trtllm --target trtllm .      on top of NVIDIA's TensorRT-LLM image
#
# Pin the bases by digest for a release, so that the same image can be made again:
#
#   docker buildx imagetools inspect nvcr.io/nvidia/tensorrt-llm/release:1.2.1   prints `Digest:`
#   --build-arg TRTLLM_BASE=nvcr.io/nvidia/tensorrt-llm/release@sha256:...
#   --build-arg BASE=python@sha256:...
#
# No weights and no tokens are in any layer: recipes, sources and the store are mounted at run time.
# How to run both images, as a job too: docs/container.md.

ARG BASE=python:3.12-slim
ARG TRTLLM_BASE=nvcr.io/nvidia/tensorrt-llm/release:1.2.1
ARG VERSION=0.1.0

# The project as a wheel, for both images.
FROM ${BASE} AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY pipeline ./pipeline
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /opt/venv \
    && /opt/venv/bin/pip wheel --no-deps --wheel-dir /wheels .

FROM ${BASE} AS cpu
ARG BASE
ARG VERSION
ARG REVISION=unknown
LABEL org.opencontainers.image.title="trtllm-pack" \
      org.opencontainers.image.description="One recipe in, one verified, reproducible TensorRT engine release out" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    python3 -m venv /opt/trtllm-pack \
    && /opt/trtllm-pack/bin/pip install "$(echo /wheels/*.whl)[rtx]"
# The caches are open to every user, so that `docker run --user "$(id -u)"` can write them too.
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin pack \
    && install --directory --mode 1777 /var/cache/trtllm-pack /var/cache/huggingface
ENV PATH=/opt/trtllm-pack/bin:$PATH \
    TRTLLM_PACK_STORE=/var/cache/trtllm-pack \
    HF_HOME=/var/cache/huggingface
USER 10001
WORKDIR /work
# It runs one command and ends: there is no service whose health could be asked.
HEALTHCHECK NONE
ENTRYPOINT ["trtllm-pack"]

# NVIDIA's image comes under NVIDIA's licence: build on it, do not redistribute the result.
FROM ${TRTLLM_BASE} AS trtllm
ARG TRTLLM_BASE
ARG VERSION
ARG REVISION=unknown
LABEL org.opencontainers.image.title="trtllm-pack" \
      org.opencontainers.image.description="One recipe in, one verified, reproducible TensorRT engine release out" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${TRTLLM_BASE}"
USER root
# The packages of the base (torch, tensorrt, tensorrt_llm, transformers, ...) fit one another and
# must stay as they are. So ours go into an environment of their own that sees them, and each of
# them is a constraint at its version: pip adds what is missing, or fails; it replaces nothing.
# The versions are those that Python imports: `pip freeze` writes file URLs for some of them. The
# base need not have `ensurepip`: its own pip installs into the environment.
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    python3 -m venv --system-site-packages --without-pip /opt/trtllm-pack \
    && python3 -c 'from importlib.metadata import distributions as d; v = {}; [v.setdefault(x.name.lower().replace("_", "-"), x.version) for x in d() if x.name]; print(*(f"{n}=={v[n]}" for n in sorted(v)), sep="\n")' > /tmp/constraints.txt \
    && python3 -m pip --python /opt/trtllm-pack/bin/python install --constraint /tmp/constraints.txt /wheels/*.whl \
    && rm /tmp/constraints.txt
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin pack \
    && install --directory --mode 1777 /var/cache/trtllm-pack /var/cache/huggingface
# `compute` for CUDA, `utility` for nvidia-smi, which tells GPUs and drivers before a build.
# Open MPI refuses root unless both variables are set, for who runs the image with `--user 0`; and
# its ranks may not read one another's memory under a container's seccomp profile, so that copies
# go through /dev/shm instead (Open MPI 4 calls that transport `vader`).
ENV PATH=/opt/trtllm-pack/bin:$PATH \
    TRTLLM_PACK_STORE=/var/cache/trtllm-pack \
    HF_HOME=/var/cache/huggingface \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    OMPI_ALLOW_RUN_AS_ROOT=1 \
    OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
    OMPI_MCA_btl_vader_single_copy_mechanism=none
USER 10001
WORKDIR /work
HEALTHCHECK NONE
# NVIDIA's own entry point prints a banner on stdout, where the document of `--json` goes.
ENTRYPOINT ["trtllm-pack"]

# Without --target: the CPU image.
FROM cpu
