"""One commit in the making: files are sent one after another, and become visible together at the end, or not at all."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar
from urllib.parse import quote, urljoin

from merging.engine.delivery import Sent as Sent
from merging.errors import HubError, HubWarning
from merging.hub.answers import patiently
from merging.hub.client import Hub, RemoteFile
from merging.hub.download import without_xet_if_needed, xet_disabled
from merging.hub.names import HubName
from merging.publish.commits import Commits, Wanted
from merging.publish.commits import Published as Published
from merging.publish.destination import MAIN, Destination, look, make, refused
from merging.publish.destination import Target as Target
from merging.publish.streams import Stream as Stream
from merging.publish.streams import no_bars, open_upload, redact_logs, send_file, xet_holds

T = TypeVar("T")
Watch = Callable[[int], None]
# What a commit reads of a file that was sent before; promised by nobody, so looked for.
_MARKS = {"upload_info", "_upload_mode", "_should_ignore", "_remote_oid", "_is_uploaded"}


class Publication:
    """One commit in the making, to one target."""

    def __init__(self, hub: Hub, target: Target, found: Destination, created: bool):
        from huggingface_hub.utils._runtime import is_xet_available

        self.hub = hub
        self.target = target
        self.created = created
        self._found = found
        self._api = hub.api()
        self._additions: dict[str, Any] = {}
        # Asked once: while another file falls back it looks for a moment as if there were none.
        self._has_xet = self._with_xet = is_xet_available()
        self._is_direct = True
        self._changing = Lock()
        redact_logs()

    @classmethod
    def open(cls, hub: Hub, target: Target, found: Destination | None = None) -> Publication:
        """Begin: rights are checked before anything, then the repository and the branch are made if they are missing.

        `found` is what `look` has told just now. Raises HubError.
        """
        found = found or look(hub, target)
        return cls(hub, target, make(hub, target, found), created=found.pinned is None)

    @property
    def existing(self) -> Mapping[str, RemoteFile]:
        """The files that are in the repository where this began."""
        return self._found.files

    @property
    def parent(self) -> str | None:
        """The commit that this one will follow."""
        return self._found.pinned.commit if self._found.pinned else None

    @property
    def private(self) -> bool:
        """Whether the repository is hidden from others."""
        return bool(self._found.pinned and self._found.pinned.private)

    def send(self, path: str, local: Path, watch: Watch | None = None) -> Sent:
        """Have the Hub hold a file's bytes, by Xet, or by LFS where that fails; `watch` gets how many are through.

        Raises HubError.
        """
        from huggingface_hub import CommitOperationAdd

        if local.stat().st_size:
            sent = self._by_xet(lambda: send_file(self._upload(watch), path, local, watch), path)
            if sent is not None:
                return sent
        sent = self._preloaded([CommitOperationAdd(path, local)])[0]
        if watch:
            watch(sent.size)
        return sent

    def stream(self, path: str, size: int) -> Stream | None:
        """A file sent while it is made, with nothing on disk; None where Xet cannot be had or is not as expected."""
        return self._by_xet(lambda: Stream(path, size, self._upload(), self._forget_xet), path) if size else None

    def holds(self, sent: Sent) -> bool:
        """Whether the Hub still has what an earlier run sent, so that a commit may name it. Raises HubError."""
        from huggingface_hub.lfs import UploadInfo, post_lfs_batch_info

        known = self.existing.get(sent.path)
        if known and (known.sha256, known.size) == (sent.sha256, sent.size):
            return True
        if not _can_mark():
            return False
        asked = UploadInfo(sent.size, b"", bytes.fromhex(sent.sha256))

        def answer() -> bool:
            objects, _, _ = post_lfs_batch_info(
                [asked],
                None,
                "model",
                self.target.repository,
                endpoint=self.hub.endpoint,
                headers=self.hub.headers(),
            )
            return any(each["oid"] == sent.sha256 and not each.get("actions") for each in objects)

        if patiently(self.hub.waits, answer, f"what {self.target.repository} holds", refused):
            return True
        return sent.mark is not None and xet_holds(self.hub, self.target.repository, self._revision, sent.mark)

    def check_card(self, content: bytes) -> None:
        """Have the Hub judge the head of a README.md before anything is sent. Raises HubError with its objections."""
        from huggingface_hub import get_session
        from huggingface_hub.utils._http import hf_raise_for_status

        def answer() -> None:
            told = get_session().post(
                f"{self.hub.endpoint}/api/validate-yaml",
                json={"content": content.decode(), "repoType": "model"},
                headers=self.hub.headers(),
            )
            if told.status_code == 400:
                objections = [str(each.get("message")) for each in told.json().get("errors", ())]
                raise HubError("the Hub does not take the head of README.md", where="; ".join(objections))
            hf_raise_for_status(told)

        patiently(self.hub.waits, answer, "README.md", refused)

    def commit(
        self, sent: Sequence[Sent], small: Mapping[str, bytes], message: str, delete: Iterable[str] = ()
    ) -> Published:
        """Make one commit of everything, after the parent and only if the branch is still there.

        A commit whose answer was lost is recognised. Where the branch already holds all of it, nothing is committed.
        Raises HubError.
        """
        from huggingface_hub import CommitOperationAdd

        gone = tuple(sorted(path for path in delete if path in self.existing))
        wanted = Wanted({**{each.path: each for each in sent}, **small}, gone)
        commits = Commits(self.hub, self.target, self._found)
        if (known := commits.known(wanted)) is not None:
            return known
        self._preloaded([CommitOperationAdd(path, content) for path, content in small.items()])
        return commits.once(lambda: self._committed(wanted, message), wanted)

    def verify(self, published: Published, expected: Mapping[str, Sent | bytes], gone: Iterable[str] = ()) -> None:
        """Compare every file of the commit with what was sent, by its content. Raises HubError with all faults."""
        name = HubName(published.repository, published.commit)
        try:
            there = self.hub.pin(name).files
        except HubError as error:
            raise HubError(
                f"commit {published.commit[:12]} of {published.repository} was made, but cannot be verified",
                where=str(error),
                fix="run the same command again: it compares, and sends nothing that is there",
            ) from None
        if faults := Wanted(expected, tuple(gone)).faults(there):
            raise HubError(
                f"commit {published.commit[:12]} of {published.repository} does not hold what was sent",
                where="; ".join(faults),
                must_be="the files of this merge, byte by byte",
                fix="run the same command again; if it stays so, the Hub or a proxy on the way is at fault",
            )

    @property
    def _revision(self) -> str | None:
        """What tokens for Xet are asked for; None means a pull request to come."""
        return None if self.target.pull_request else quote(self.target.branch or MAIN, safe="")

    def _upload(self, watch: Watch | None = None) -> Any:
        return open_upload(self.hub, self.target.repository, self._revision, watch)

    def _by_xet(self, attempt: Callable[[], T], path: str) -> T | None:
        """What `attempt` makes of Xet; None where that fails, and then for good."""
        from huggingface_hub.utils._runtime import is_xet_available

        if not (self._with_xet and self._is_direct and is_xet_available() and _can_mark()):
            return None
        try:
            return attempt()
        except HubError:
            raise
        except (ImportError, AttributeError, TypeError):
            # An interface that nobody promised has changed; the client's own way to Xet is still there.
            self._is_direct = False
        except Exception as error:
            self._without_xet(f"{path} to {self.target} ({type(error).__name__})")
        return None

    def _forget_xet(self) -> bool:
        """Whether Xet was still in use; it is not any more."""
        with self._changing:
            before, self._with_xet = self._with_xet, False
        return before

    def _without_xet(self, what: str) -> None:
        """Go on without Xet, and say so once."""
        if self._forget_xet():
            warnings.warn(f"Xet failed for {what}; going on without it", HubWarning, stacklevel=4)

    def _preloaded(self, additions: list[Any]) -> list[Sent]:
        """Send what is large among the additions, and keep all of them for the commit. Raises HubError."""
        from huggingface_hub.utils._runtime import is_xet_available

        def attempt() -> None:
            self._with_xet = self._with_xet and is_xet_available()
            try:
                with no_bars():
                    self._api.preupload_lfs_files(
                        self.target.repository,
                        additions,
                        revision=self.target.branch,
                        create_pr=self.target.pull_request,
                        free_memory=False,
                    )
            except RuntimeError as error:
                # The client wraps what it was answered.
                raise error.__cause__ or error from None

        what = f"{', '.join(each.path_in_repo for each in additions[:3])} to {self.target}"
        try:
            if self._with_xet or not self._has_xet:
                without_xet_if_needed(attempt, what)
            else:
                with xet_disabled():
                    attempt()
        except Exception as error:
            raise refused(error, what) from None
        ignored = [each.path_in_repo for each in additions if each._should_ignore]
        if ignored:
            raise HubError(
                f"the .gitignore of {self.target.repository} leaves out {', '.join(ignored)}",
                fix="remove those lines from it, or publish to another repository",
            )
        self._additions |= {each.path_in_repo: each for each in additions}
        return [Sent(each.path_in_repo, each.upload_info.size, each.upload_info.sha256.hex()) for each in additions]

    def _committed(self, wanted: Wanted, message: str) -> Published:
        """One request that makes the commit; raises what the client raises."""
        from huggingface_hub import CommitOperationDelete

        added = [self._additions.get(path) or _marked(each) for path, each in wanted.files.items()]
        made = self._api.create_commit(
            self.target.repository,
            [*added, *(CommitOperationDelete(path, is_folder=False) for path in wanted.gone)],
            commit_message=message,
            revision=self.target.branch,
            create_pr=self.target.pull_request,
            parent_commit=self.parent,
        )
        url = urljoin(f"{self.hub.endpoint}/", made.commit_url)
        return Published(self.target.repository, made.oid, url, made.pr_url)


def _can_mark() -> bool:
    """Whether an addition can be told that its bytes are at the Hub already."""
    from huggingface_hub import CommitOperationAdd

    return {each.name for each in fields(CommitOperationAdd)} >= _MARKS


def _marked(sent: Sent | bytes) -> Any:
    """An addition of bytes that are at the Hub already."""
    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.lfs import UploadInfo

    if isinstance(sent, bytes) or not _can_mark():
        raise AssertionError("every file of a commit has been sent")
    addition = CommitOperationAdd(sent.path, b"")
    marks = {
        "upload_info": UploadInfo(sent.size, b"", bytes.fromhex(sent.sha256)),
        "_upload_mode": "lfs",
        "_should_ignore": False,
        "_is_uploaded": True,
    }
    for name, value in marks.items():
        setattr(addition, name, value)
    return addition
