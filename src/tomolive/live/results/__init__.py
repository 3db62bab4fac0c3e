"""What a scan leaves: pictures, numbers and documents."""
