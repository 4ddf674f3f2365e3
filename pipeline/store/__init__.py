"""The store: artifacts by stage and key, in a folder that several processes and machines may share.

artifacts/<stage>/<key>/    published folders, read-only
work/                       folders that artifacts are written in, and scratch folders
sessions/                   one file for every process at work: who, and what it needs
uses/<stage>/<key>          when an artifact was last used
locks/  runs/  trash/       locks; records of runs; what is being deleted
build-caches/  listings/  digests.sqlite   what makes later work faster
"""

from pipeline.files.journal import JOURNAL_NAME
from pipeline.store.session import Session
from pipeline.store.store import Store

__all__ = ["JOURNAL_NAME", "Session", "Store"]
