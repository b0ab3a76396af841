"""Zip files and checksums whose bytes depend on nothing but their contents and one time."""

import hashlib
import io
import time
import zipfile


def archive(files, epoch):
    """A zip file with these names and bytes. `epoch` is the time of all of them, in seconds.

    They are stored, not compressed: another version of zlib compresses to other bytes.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for name in sorted(files):
            # A zip file has no time before 1980.
            entry = zipfile.ZipInfo(name, max(time.gmtime(epoch)[:6], (1980, 1, 1, 0, 0, 0)))
            entry.create_system = 3  # Unix, on which the permissions below depend
            entry.external_attr = (0o100755 if name == "bootstrap" else 0o100644) << 16  # Lambda starts executable files only
            file.writestr(entry, files[name])
    return packed.getvalue()


def checksums(files):
    """The text of SHA256SUMS, as sha256sum writes and checks it."""
    return "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
