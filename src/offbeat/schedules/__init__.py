"""When the stages run (Figure 4): sequential, reactive or asynchronous. Each loop calls the same boxes."""
