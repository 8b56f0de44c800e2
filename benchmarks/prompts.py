"""Twenty prompts written for this project; no corpus holds them, so they are held out."""

PROMPTS = (
    "Once upon a time there was a small snail who wanted to see the sea.",
    "The little dog found a strange key under the table.",
    "Anna and her brother built a boat out of an old box.",
    "One rainy morning, the postman could not find his red hat.",
    "A tiny mouse lived behind the clock in the kitchen.",
    "Grandpa opened the window and a blue bird flew in.",
    "Ben was afraid of the dark until he met the moon.",
    "In the garden there was a tree that could talk.",
    "Mia lost her favorite doll at the market.",
    "The old bear did not want to sleep this winter.",
    "Two friends wanted to share one big apple.",
    "Sam heard a funny noise under his bed.",
    "Translate to English: Je ne trouve pas mes clés.",
    "Translate to English: Nous allons au marché demain.",
    "Translate to English: Mi hermana vive en Madrid.",
    "Translate to English: 我今天很高兴。",
    "Question: Tom has 4 apples and buys 3 more. How many apples does Tom have?\nAnswer:",
    'def largest(numbers):\n    """Return the largest number of a list."""\n',
    'def is_even(n):\n    """Return True if n is even."""\n',
    "What is the best way to learn a new language?\n",
)
