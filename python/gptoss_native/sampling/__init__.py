"""How tokens are drawn: params are the options by name, drawing what the native stage takes of them, stops the texts
that end a generation."""
