"""Maps of many forwards from a part of them, with an estimate of the error that is left."""
