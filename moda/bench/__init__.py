"""What time and memory everything takes here: a whole run's stages (`stages`), live sessions (`live`)."""
