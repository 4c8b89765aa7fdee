"""Looking at labelled bags and saved maps: in a window, as a picture, as a Rerun recording."""
