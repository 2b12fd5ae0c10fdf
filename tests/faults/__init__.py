"""What users' mistakes, damaged and hostile files, and kills at any moment do to the commands."""
