"""How people ask for sums. TRAINED is what the model sees, UNSEEN is kept to measure what it makes of new wording."""

from __future__ import annotations

import random

from demo_model.sums import Operator, Sum

TRAINED: dict[Operator, tuple[str, ...]] = {
    "+": (
        "What is {a} + {b}?", "What is {a}+{b}?", "What's {a} + {b}?", "{a} + {b} =", "{a}+{b}=", "{a}+{b}",
        "{a} + {b}", "{a} + {b} = ?", "{a} + {b}?", "Add {a} and {b}.", "Add {a} to {b}.", "Compute {a} + {b}.",
        "Calculate {a} + {b}", "Calculate {a} plus {b}.", "How much is {a} + {b}?", "How much is {a} plus {b}?",
        "Can you add {a} and {b}?", "What is the sum of {a} and {b}?", "Sum of {a} and {b}", "{a} plus {b}",
        "What is {a} plus {b}?", "Find {a} + {b}.", "Solve {a} + {b}", "Tell me {a} + {b}.", "Evaluate {a}+{b}.",
        "What does {a} + {b} equal?", "What is the total of {a} and {b}?", "Do you know {a} + {b}?",
        "Let's add {a} and {b}!", "Work out {a} + {b} for me.", "I want to know {a} + {b}.", "{a} and {b} added",
        "What do you get when you add {a} and {b}?", "The sum of {a} and {b} is what?", "{a} + {b} equals what?",
        "Put {a} and {b} together.", "What number is {a} plus {b}?", "Tell me the sum of {a} and {b}.",
        "I have {a} apples and get {b} more. How many apples do I have?", "Total of {a} and {b}?",
        "Tom has {a} coins and Ann has {b} coins. How many coins are there in total?",
        "There are {a} birds, then {b} more come. How many birds are there now?", "Can you do {a} + {b}?",
        "A shop sold {a} books on Monday and {b} books on Tuesday. How many books is that altogether?",
        "My answer to {a} + {b} should be what?", "Increase {a} by {b}.", "How many are {a} and {b} in all?",
        "Start with {a} and add {b}.", "Result of {a} + {b}", "Do the addition {a} + {b}",
        "Is {a} + {b} easy? Solve it.",
        "I spent {a} on food and {b} on rent. What did I spend altogether?", "{a} more than {b}", "add {a} {b}",
        "Could you add {a} and {b} for me?", "When I add {a} to {b}, what is the sum?",
        "The total of {a} plus {b}, please",
        "Show {a} + {b}", "{a} along with {b}: how many?", "Would you sum {a} and {b}?", "Let me know {a} plus {b}",
        "Lisa walks {a} steps in the morning and {b} steps at night. How many steps in total?",
        "Combine {a} with {b}.",
        "Get the sum of the numbers {a} and {b}", "I need to add {a} and {b}", "My sum is {a} + {b}",
        "Plus: {a} and {b}",
        "Peter owns {a} cards and buys {b} cards. How many cards does he own?", "what does {a} plus {b} come to",
    ),
    "-": (
        "What is {a} - {b}?", "What is {a}-{b}?", "What's {a} - {b}?", "{a} - {b} =", "{a}-{b}=", "{a}-{b}",
        "{a} - {b}", "{a} - {b} = ?", "{a} - {b}?", "Subtract {b} from {a}.", "Take {b} away from {a}.",
        "Compute {a} - {b}.", "Calculate {a} - {b}", "Calculate {a} minus {b}.", "How much is {a} - {b}?",
        "How much is {a} minus {b}?", "Can you subtract {b} from {a}?", "{a} minus {b}", "What is {a} minus {b}?",
        "Find {a} - {b}.", "Solve {a} - {b}", "Tell me {a} - {b}.", "Evaluate {a}-{b}.", "What does {a} - {b} equal?",
        "I have {a} apples and give away {b}. How many apples do I have left?", "Do you know {a} - {b}?",
        "What is the difference between {a} and {b}?", "What is {a} take away {b}?", "{a} take away {b}",
        "Work out {a} - {b} for me.", "I want to know {a} - {b}.", "What is left when you take {b} from {a}?",
        "{a} - {b} equals what?", "What number is {a} minus {b}?", "Tell me {a} minus {b}.", "Can you do {a} - {b}?",
        "Tom had {a} coins and lost {b} of them. How many coins are left?", "Reduce {a} by {b}.",
        "There were {a} birds and {b} flew away. How many birds stayed?", "Take {b} from {a}.",
        "A shop had {a} books and sold {b}. How many books remain?", "Decrease {a} by {b}.", "{a} less {b}",
        "Start with {a} and subtract {b}.", "Result of {a} - {b}", "Do the subtraction {a} - {b}",
        "{b} less than {a}",
        "I had {a} euros and spent {b}. What is left?", "The difference of {a} and {b} is what?",
        "Remove {b} from {a}.",
        "Could you subtract {b} from {a} for me?", "When I subtract {b} from {a}, what is left?",
        "{a} minus {b}, please",
        "Show {a} - {b}", "Would you take {b} from {a}?", "Let me know {a} minus {b}", "{a} with {b} taken away",
        "Lisa had {a} steps to go and has walked {b}. How many steps remain?", "Subtract the numbers: {a} - {b}",
        "Get the difference of the numbers {a} and {b}", "I need to subtract {b} from {a}", "My sum is {a} - {b}",
        "Peter owns {a} cards and sells {b} cards. How many cards does he have left?", "Minus: {a} and {b}",
        "what does {a} minus {b} come to", "Lower {a} by {b}.", "By how much is {a} larger than {b}?",
        "Deduct {b} from {a}.",
        "Mary has {a} pens and gives {b} to her brother. How many pens are left?", "Remaining: {a} - {b}",
        "Of {a} eggs {b} broke. How many are whole?", "If {b} of {a} seats are taken, how many are free?",
        "What is {a} reduced by {b}?", "How much more is {a} than {b}?", "Please take away {b} from {a}",
    ),
    "*": (
        "What is {a} * {b}?", "What is {a}*{b}?", "What is {a} x {b}?", "What's {a} × {b}?", "{a} * {b} =", "{a}*{b}",
        "{a} x {b}", "{a} × {b}", "{a}x{b}", "Multiply {a} by {b}.", "Multiply {a} and {b}", "{a} times {b}",
        "What is {a} times {b}?", "How much is {a} times {b}?", "How much is {a} * {b}?", "Calculate {a} * {b}",
        "Compute {a} × {b}.", "What is the product of {a} and {b}?", "Can you multiply {a} and {b}?",
        "Find {a} x {b}.",
        "Work out {a} * {b} for me.", "I want to know {a} times {b}.", "{a} * {b} = ?", "{a} x {b} =", "{a} × {b}?",
        "{a} multiplied by {b}", "What is {a} multiplied by {b}?", "Tell me {a} times {b}.", "Evaluate {a}*{b}.",
        "Solve {a} * {b}", "Product of {a} and {b}", "What do you get when you multiply {a} by {b}?",
        "There are {a} boxes with {b} pens each. How many pens are there?", "What does {a} * {b} equal?",
        "One ticket costs {a}. What do {b} tickets cost?", "The product of {a} and {b} is what?",
        "Do you know {a} * {b}?",
        "A week has {a} hours of work. How many hours are {b} weeks?", "Do the multiplication {a} * {b}",
        "{a} bags hold {b} apples each. How many apples are that?", "Result of {a} x {b}", "Can you do {a} * {b}?",
        "What number is {a} times {b}?", "Tell me the product of {a} and {b}.", "{a} * {b} equals what?",
        "Could you multiply {a} by {b} for me?", "When I multiply {a} by {b}, what is the product?",
        "{a} times {b}, please",
        "Show {a} * {b}", "Would you multiply {a} and {b}?", "Let me know {a} times {b}", "{a} repeated {b} times",
        "Lisa walks {a} steps each day. How many steps are that in {b} days?",
        "Get the product of the numbers {a} and {b}",
        "I need to multiply {a} by {b}", "My sum is {a} * {b}", "Times: {a} and {b}", "Take {a} {b} times.",
        "Peter owns {a} boxes of {b} cards. How many cards are that?", "what does {a} times {b} come to",
        "Each of {a} cars has {b} wheels. How many wheels are there?", "{b} times the number {a}",
        "{a} by {b}, multiplied",
    ),
}

UNSEEN: dict[Operator, tuple[str, ...]] = {
    "+": (
        "Could you tell me what {a} plus {b} makes?", "If I add {a} and {b}, what do I get?", "Give me {a} + {b}",
        "Hey, {a} + {b} please", "What do {a} and {b} add up to?", "quick: {a}+{b}?",
        "I need the sum of {a} and {b}.",
        "Add the numbers {a} and {b}", "what would {a} + {b} be", "Sum up {a} and {b}", "{a} added to {b}",
        "Say what {a} + {b} is.", "Anna reads {a} pages today and {b} pages tomorrow. How many pages in total?",
    ),
    "-": (
        "Could you tell me what {a} minus {b} makes?", "If I take {b} away from {a}, what remains?",
        "Give me {a} - {b}",
        "Hey, {a} - {b} please", "quick: {a}-{b}?", "I need the difference between {a} and {b}.",
        "what would {a} - {b} be",
        "{a} reduced by {b} gives?", "Please work out {a} minus {b}", "Say what {a} - {b} is.",
        "Subtract the number {b} from {a}",
        "Anna has {a} stamps and gives {b} to a friend. How many stamps are left?",
    ),
    "*": (
        "Could you tell me what {a} times {b} makes?", "If I multiply {a} by {b}, what do I get?",
        "Give me {a} * {b}",
        "Hey, {a} x {b} please", "quick: {a}*{b}?", "I need the product of {a} and {b}.", "what would {a} * {b} be",
        "{a} taken {b} times", "Please work out {a} times {b}", "Say what {a} × {b} is.",
        "Multiply the numbers {a} and {b}",
        "Every one of {a} shelves carries {b} books. How many books are there?",
    ),
}

CORES: dict[Operator, tuple[str, ...]] = {
    "+": ("{a} + {b}", "{a}+{b}", "{a} plus {b}", "the sum of {a} and {b}", "the total of {a} and {b}",
          "{a} and {b} added together", "{b} more than {a}"),
    "-": ("{a} - {b}", "{a}-{b}", "{a} minus {b}", "the difference between {a} and {b}", "{a} take away {b}",
          "the difference of {a} and {b}", "{b} subtracted from {a}", "{b} less than {a}", "{a} less {b}"),
    "*": ("{a} * {b}", "{a}*{b}", "{a} x {b}", "{a} × {b}", "{a} times {b}", "{a} multiplied by {b}",
          "the product of {a} and {b}"),
}
FRAMES = (
    "{x}", "{x}?", "{x} =", "{x} = ?", "What is {x}?", "What's {x}?", "Calculate {x}.", "Compute {x}", "Find {x}.",
    "How much is {x}?", "Solve {x}.", "Tell me {x}.", "Evaluate {x}", "Work out {x}.", "Can you tell me {x}?",
    "Could you work out {x}?", "Do you know {x}?", "I want {x}.", "I would like to know {x}.", "Let me know {x}.",
    "What number is {x}?", "What does {x} equal?", "What does {x} come to?", "What do you get for {x}?",
    "Show me {x}.",
    "What is the result of {x}?", "The answer to {x}?", "My homework says {x}.", "Write down {x}.",
    "Help me with {x}.",
    "Would you compute {x} for me?", "{x} is what?", "{x} comes to what?", "{x} is how much?", "I have to find {x}.",
    "Is there an answer to {x}?", "Answer this: {x}", "Try {x}.", "Can you find {x}?", "How many is {x}?", "Do {x}.",
)
"""How one asks for a result, whatever it is of."""
COMPOSED = 0.4
"""The share of questions that are a core in a frame, and not from TRAINED."""

_OPENINGS = ("Please ", "Hi, ", "Hello! ", "Ok, ", "Now ", "So ", "And ", "Well, ", "Next: ", "Question: ", "Hm, ",
             "Quickly, ", "My friend asks: ", "Could you help? ", "I have a question. ", "Can you tell me: ", "Just ",
             "For my homework: ", "I wonder, ", "Excuse me, ", "Dear model, ", "Good morning. ", "Sorry, ", "Then ")
_CLOSINGS = ("", "?", ".", "!", " =", " ?", " please", ", please.", " thanks", ". Thank you!", ", ok?", " now",
             " for me", " please?", "? Thanks", ". I need it.", "? I forgot.", ", quickly", " right now?")


def template(op: Operator, rng: random.Random) -> str:
    """A wording that is trained on, with {a} and {b} for the operands."""
    while rng.random() < COMPOSED:
        composed = in_frame(rng.choice(CORES[op]), rng)
        if _plain(composed) not in _UNSEEN:
            return composed
    return rng.choice(TRAINED[op])


def in_frame(core: str, rng: random.Random) -> str:
    text = rng.choice(FRAMES).replace("{x}", core)
    return text[0].upper() + text[1:]


def ask(problem: Sum, rng: random.Random) -> str:
    """A question in trained wording, with the variety of openings, endings and capitals that people use."""
    return vary(template(problem.op, rng).format(a=problem.left, b=problem.right), rng)


def _plain(text: str) -> str:
    return text.lower().rstrip("?.=! ")


_UNSEEN = {_plain(text) for texts in UNSEEN.values() for text in texts}


def vary(text: str, rng: random.Random) -> str:
    if rng.random() < 0.12:
        text = text[0].lower() + text[1:]
    if rng.random() < 0.12:
        opening = rng.choice(_OPENINGS)
        text = opening + (text[0].lower() + text[1:] if opening[-2] in ", " and rng.random() < 0.7 else text)
    if rng.random() < 0.14:
        text = text.rstrip("?.=! ") + rng.choice(_CLOSINGS)
    if rng.random() < 0.06 and "x" not in text:
        text = text.upper()
    elif rng.random() < 0.05:
        text = text.lower()
    return text
