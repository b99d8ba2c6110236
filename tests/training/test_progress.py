import io

from compjax.training import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_plain_lines_come_now_and_then_and_at_the_end():
    file = io.StringIO()
    with Progress(0, 50, images=4, file=file, period=3600.0) as progress:
        progress.note("compiling ...")
        for step in range(1, 51):
            progress.update(step, loss=float(step % 2))
    first, last = file.getvalue().splitlines()
    assert first == "compiling ..."
    assert last.startswith("step 50/50, 200 images, loss 0.5000, ")
    assert last.endswith("0:00:00 left")


def test_terminal_gets_a_bar():
    file = Terminal()
    with Progress(10, 20, images=4, file=file) as progress:
        for step in range(11, 21):
            progress.update(step, loss=0.25)
    assert "20/20" in file.getvalue() and "\r" in file.getvalue()
