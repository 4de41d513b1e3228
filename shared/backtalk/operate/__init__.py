"""What people do to queues that workers and clients do not: look at dead letters, check the topology, find what is wrong."""
