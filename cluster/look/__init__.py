"""What a trained agent does, sees and dreams: games played, numbers, films and strips."""
