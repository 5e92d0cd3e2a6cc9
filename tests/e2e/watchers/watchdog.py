"""Mirrors the folder `parts` by what watchdog tells. A renamed file is not read again."""

import sys
import threading
from pathlib import Path

# This file has the package's name; its folder is no place to import from.
sys.path.pop(0)
from watchdog.events import FileSystemEventHandler  # noqa: E402
from watchdog.observers import Observer  # noqa: E402

parts = {}


def show():
    print("shows", *(f"{name}={text}" for name, text in sorted(parts.items())), flush=True)


def is_part(path):
    return path.endswith(".txt")


class Mirror(FileSystemEventHandler):
    def on_created(self, event):
        self.on_modified(event)

    def on_modified(self, event):
        if is_part(event.src_path):
            read(Path(event.src_path))
            show()

    def on_moved(self, event):
        text = parts.pop(Path(event.src_path).stem, None) if is_part(event.src_path) else None
        if is_part(event.dest_path):
            if text is None:
                read(Path(event.dest_path))
            else:
                parts[Path(event.dest_path).stem] = text
        show()

    def on_deleted(self, event):
        if is_part(event.src_path):
            parts.pop(Path(event.src_path).stem, None)
            show()


def read(path):
    try:
        parts[path.stem] = path.read_text()
    except FileNotFoundError:
        pass  # Gone already; that will be told.


observer = Observer()
observer.schedule(Mirror(), "parts", recursive=True)
observer.start()
for path in Path("parts").iterdir():
    read(path)
show()
threading.Event().wait()
