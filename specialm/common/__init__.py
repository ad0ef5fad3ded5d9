"""What all other packages use: errors, files, stages, processes, progress bars."""
