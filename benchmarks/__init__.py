"""What `make bench` measures: both workers and their graphs, beside two bare consumers in the same run."""
