"""Turning arrays into pictures: colour, fonts, figures. Knows no classifier and no method."""
