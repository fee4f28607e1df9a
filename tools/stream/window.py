"""A window that shows pictures as they come."""

from __future__ import annotations

import numpy as np
from PIL import Image

from common.errors import InputError

__all__ = ["Window"]

_MOST = (1280, 960)  # width and height


class Window:
    """Show pictures; q, Escape or closing it ends.

    Args:
        title: of the window.

    Attributes:
        closed: True once the user has closed it.

    Raises:
        InputError: there is no display, or Python was built without Tk.
    """

    def __init__(self, title: str) -> None:
        remedy = "pass --output FILE.mp4 or --headless"
        try:
            import tkinter

            from PIL import ImageTk
        except ImportError as error:
            raise InputError("window", f"cannot be opened (this Python lacks {error.name})", remedy) from error
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise InputError("window", f"cannot be opened ({error})", remedy) from error
        self._photo = ImageTk.PhotoImage
        self.closed = False
        self._root.title(title)
        self._root.protocol("WM_DELETE_WINDOW", self._end)
        for key in ("<q>", "<Escape>"):
            self._root.bind(key, self._end)
        self._label = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()

    def _end(self, *_: object) -> None:
        self.closed = True

    def show(self, picture: np.ndarray) -> None:
        """Show a picture, (H, W, 3) uint8 RGB, made smaller where it is larger than most screens."""
        image = Image.fromarray(picture)
        image.thumbnail(_MOST, Image.Resampling.BILINEAR)
        self._shown = self._photo(image)  # Tk keeps no reference of its own
        self._label.configure(image=self._shown)
        self._root.update()

    def refresh(self) -> None:
        """React to keys and to the window's own buttons."""
        self._root.update()

    def close(self) -> None:
        """Take the window away."""
        self._root.destroy()
