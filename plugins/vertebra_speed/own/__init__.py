"""Our side: Vertebra's engine as a run uses it."""
