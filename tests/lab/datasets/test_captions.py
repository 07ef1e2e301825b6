"""Captions as words, and how often they occur."""

from dytemp.lab.datasets import captions


def test_the_rarest_word_of_each_caption() -> None:
    known = ("", "<unknown>", "red", "shoes")
    spoken = ["red shoes", "red", "red hats", "shoes shoes", "Red! shoes", ""]
    tokens = captions.tokenise(spoken, known, length=3)
    assert captions.rarest(tokens, known).tolist() == [4, 4, 0, 4, 4, 18]  # "hats" is not known
    assert captions.equal(["a", "b", "a", "c", "b"]).tolist() == [0, 1, 0, 3, 1]
