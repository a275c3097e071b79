"""Publishing a finished merge: which files, the model card, its picture, the licence that the parents leave."""
