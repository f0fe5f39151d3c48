"""What people use today, doing the same as Raydock does: a few lines each, to be judged."""
