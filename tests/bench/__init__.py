"""What Raydock costs beside its peers: `script/bench`."""
