"""Models from and to other programs: open a package, predict with it, export one's own."""
