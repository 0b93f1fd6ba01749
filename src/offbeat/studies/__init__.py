"""Studies: settings times seeds as a list of ordinary runs, resumable at any moment."""
