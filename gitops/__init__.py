"""What Argo CD and Flux need to know about our kinds, as files that are installed with them."""
