"""New plugins: a package for each family of tasks, written from templates."""
