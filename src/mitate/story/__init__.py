"""The whole story on simulated paddy leaves: a cheat is learnt and found; masks are tried on it."""

from mitate.story.story import tell_story

__all__ = ["tell_story"]
