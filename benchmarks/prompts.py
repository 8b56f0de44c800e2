"""Prompts written for this project; no corpus holds them, so they are held out.

`PROMPTS` are twenty of all sorts; `KINDS` groups them, and more of some, by what is written.
"""

STORIES = (
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
)
TRANSLATIONS = (
    "Translate to English: Je ne trouve pas mes clés.",
    "Translate to English: Nous allons au marché demain.",
    "Translate to English: Mi hermana vive en Madrid.",
    "Translate to English: 我今天很高兴。",
)
CODE = (
    'def largest(numbers):\n    """Return the largest number of a list."""\n',
    'def is_even(n):\n    """Return True if n is even."""\n',
)
PROMPTS = (
    *STORIES,
    *TRANSLATIONS,
    "Question: Tom has 4 apples and buys 3 more. How many apples does Tom have?\nAnswer:",
    *CODE,
    "What is the best way to learn a new language?\n",
)

MORE_TRANSLATIONS = (
    "Translate to English: Le train part à huit heures.",
    "Translate to English: ¿Dónde está la biblioteca?",
    "Translate to English: Ma grand-mère habite près de la rivière.",
    "Translate to English: 他每天早上喝茶。",
)
MORE_CODE = (
    'def count_words(text):\n    """Return the number of words of a text."""\n',
    'def reverse(text):\n    """Return the text from its end to its beginning."""\n',
    'class Stack:\n    """A last-in, first-out list."""\n\n    def __init__(self):\n',
    "for i in range(10):\n    if i % 2 == 0:\n        print(i)\n",
    'def average(numbers):\n    """Return the mean of a list of numbers."""\n    total = 0\n',
    'def read_lines(path):\n    """Return the lines of a file."""\n    with open(path) as file:\n',
)
# Texts that make a model copy what stands in them.
REPETITION = (
    "The wheel goes round. The horn goes beep. The wheel goes round. The horn goes beep. The wheel",
    "One frog jumped in the pond. Two frogs jumped in the pond. Three frogs jumped in the pond. "
    "Four frogs",
    "The sun is hot, said the hen. The sun is hot, said the duck. The sun is hot, said the pig. "
    "The sun is hot, said",
    "Knock, knock. Who is there? It is the cat. Knock, knock. Who is there? It is the dog. Knock,",
    'names = []\nnames.append("Anna")\nnames.append("Ben")\nnames.append("Clara")\nnames.append(',
    "Row the boat, row the boat, over the lake. Row the boat, row the boat, over the lake. Row",
    "print(1)\nprint(2)\nprint(3)\nprint(4)\nprint(5)\nprint(6)\n",
    "I like red apples and I like green apples. I like red pears and I like",
)
KINDS = {
    "stories": STORIES,
    "translations": TRANSLATIONS + MORE_TRANSLATIONS,
    "code": CODE + MORE_CODE,
    "repetition": REPETITION,
}
TUNING = (  # for settings that are chosen before measuring; in no kind
    "The kind farmer had a goat who liked to sing.",
    "Translate to English: Mon ami a un petit chien noir.",
    'def smallest(numbers):\n    """Return the smallest number of a list."""\n',
)
