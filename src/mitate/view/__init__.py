"""What people see beside single figures: the pages, and what they are made of."""
