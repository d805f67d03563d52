"""What commands say that changed names or facts."""

UNDO = "undo with: casckpt undo"
