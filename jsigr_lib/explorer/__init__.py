"""One picture for one state of the controls, and the networks that come with the repository."""
