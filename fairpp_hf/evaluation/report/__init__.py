"""What `fairpp evaluate` wrote, read back."""
