"""The sets of the papers, by the names that commands and configurations use."""

from compjax import datasets

SETS = {
    "background": datasets.BACKGROUND,
    "single": datasets.SINGLE,
    "cluttered": datasets.CLUTTERED,
    "colored": datasets.COLORED,
    "counts_all": datasets.COUNTS_ALL,
    "counts_one": datasets.COUNTS_ONE,
    "counts_some": datasets.COUNTS_SOME,
    "single_all": datasets.SINGLE_ALL,
}
