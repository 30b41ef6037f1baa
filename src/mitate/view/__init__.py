"""What people see beside single figures: the HTML report."""
