"""mitate (見立て): where an image classifier looks, and whether that is the right place."""
