"""What stands in for recordings where there is no GPU."""


class RunEachTime:
    """In a `Recording`'s place: what would be replayed is run."""

    def __init__(self, work, begin, generator=None):
        self.work = work

    def __call__(self, begin):
        return self.work(begin)


class RunAtOnce(RunEachTime):
    """Runs it when made as well, as a recording does."""

    def __init__(self, work, begin, generator=None):
        super().__init__(work, begin)
        work(begin)
