"""`--push USER/NAME`: an export as a repository on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from adversarial_trainer import __version__
from adversarial_trainer.models.pretrained import hub


def check_push(repo: str) -> None:
    """Raise ValueError unless `repo` is a name, huggingface_hub is installed and has a token."""
    if not hub.is_name(repo) or "@" in repo:
        raise ValueError(f"--push {repo}: a repository on the hub is named USER/NAME.")
    try:
        from huggingface_hub import get_token
    except ImportError as exc:
        raise ValueError("--push needs huggingface_hub: pip install huggingface_hub") from exc
    if get_token() is None:
        raise ValueError(f"--push {repo}: no token; set HF_TOKEN or log in by `hf auth login`.")


def push(folder: Path, repo: str, names: Iterable[str], public: bool = False) -> str:
    """Put the files `names` of `folder` into the repository `repo`, which is made if need be.

    Of an earlier export in it, files that are not replaced are deleted; others are kept.

    Args:
        repo: USER/NAME.
        names: all names that exports have; those that are not in `folder` are deleted in `repo`.
        public: whether everybody may read it, if it is made.

    Returns:
        A line for the user.

    Raises:
        OSError: the hub cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name="adversarial_trainer", library_version=__version__)
    names = sorted(names)
    try:
        api.create_repo(repo, private=not public, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            allow_patterns=names,
            delete_patterns=names,
            commit_message=f"Export by adversarial_trainer {__version__}",
        )
    except Exception as exc:  # of its HTTP library, which differs between versions
        raise OSError(f"--push {repo}: {hub.reason(exc)}") from exc
    return f"pushed: {commit.commit_url}"
