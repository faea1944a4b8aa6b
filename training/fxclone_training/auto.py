"""Which family fits an effect: measured on the pair, not taken from what the effect says of itself."""

from __future__ import annotations

from fxclone_training.session import Session


def choose_family(session: Session) -> str:
    """The recipe's family, or for ``auto`` the one that the pair asks for; tells the user what was found and why."""
    recipe = session.recipe
    if recipe.family != "auto":
        return recipe.family
    channels = session.training.dry.shape[0], session.training.wet.shape[0]
    return "ar" if channels == (1, 1) else "tail"
