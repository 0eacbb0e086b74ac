"""Questions that no sum answers. Each list is cut in two: one part is trained on, the other kept to measure."""

from __future__ import annotations

KEPT = 5
"""Every fifth entry of a list is kept for measuring."""


def entries(text: str) -> tuple[str, ...]:
    """The parts of `text` between bars and line ends."""
    return tuple(part.strip() for line in text.strip().splitlines() for part in line.split("|"))


def split(listed: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(trained on, kept for measuring)."""
    kept = listed[KEPT - 1 :: KEPT]
    return tuple(entry for entry in listed if entry not in kept), kept


QUESTIONS = entries("""
What is the capital of France?|Who wrote Hamlet?|What is the weather today?|Who painted the Mona Lisa?
What time is it?
Who is the president?|How do I cook rice?|Why is the sky blue?|What is the meaning of life?|How far away is the moon?
What is love?|How old are you?|What year is it?|Is water wet?|Do you like music?|Where is Tokyo?|How deep is the sea?
What is the speed of light?|How many days are in a year?|What is the largest planet?|Who won the game last night?
Who discovered America?|When did the war end?|What is the tallest mountain?|How many legs has a spider?
Why do cats purr?
What should I eat tonight?|Where do penguins live?|What is the best phone?|How do planes fly?|When is Easter?
Is there life on Mars?|Why do we dream?|What does a lawyer do?|Who invented the telephone?|How long is the river Nile?
What colour is a banana?|Can dogs eat chocolate?|How do magnets work?|What is the boiling point of water?
Why is grass green?
Who is Ada Lovelace?|What languages do you speak?|Where are my keys?|How do I tie a tie?|What is your favourite food?
Is Pluto a planet?|What is the stock price?|How can I sleep better?|What is in the news?|Do you have feelings?
How many people live in China?|What rhymes with orange?|Should I buy a house?|What is my name?|Where am I?
Which is larger, a whale or an elephant?|Which number is bigger?|Is seven a prime number?|What is pi?|Count to ten.
What is half of it?|Double that.|Add five to that.|And now times two?|What about the next one?|Try again.
Are you sure?
Why?|How?|Really?|Who?|And then?|Continue.|Go on.|Tell me more.|Repeat that.|What did I say before?|Show your work.
How come?|When?|Where?|What?|Which one?|What else?|What next?|Go ahead.|Next|More|Again|Explain.|Explain that.
Say more.
What was that?|What does that mean?|I do not understand.|Stop|Wait|No|Yes|Maybe|Hm|Undo that.|Say it again.|Once more.
What is her name?|What is my age?|What is your age?|Where do you live?|Who is your father?|What day is it?|Is it late?
What time do you close?|What is today's date?|When is lunch?|Who is Marie Curie?|Who was Caesar?|Who is your friend?
Halve it.|Triple it.|Subtract two from that.|Take away five.|What about ten more?|Divide it by two.|Add them up.
How far is Berlin from Paris?|How fast is a horse?|How heavy is gold?|How tall are you?|How much is a house?
How hot is the sun?
Is ten larger than nine?|Which is smaller?|Compare the two.|Is it even?|Is that right?|Is this true?
What is the root of it?
Can you see me?|Can you hear me?|Can you sing?|Can you read?|Can you drive?|Do you sleep?|Do you like me?|Do you eat?
""")

REQUESTS = entries("""
Write a poem about {t}.|Tell me a joke about {t}.|Explain {t}.|Explain {t} to a child.|Write a story about {t}.
Summarize a book on {t}.|What is {t}?|How does {t} work?|Who invented {t}?|Give me a recipe with {t}.|Describe {t}.
Where can I find {t}?|Recommend a film about {t}.|Tell me something about {t}.|Why is {t} important?|Draw {t}.
What do you think of {t}?|Translate {t} to German.|Write an essay on {t}.|List three facts about {t}.|Sing about {t}.
How do I learn {t}?|What is the history of {t}?|Compare {t} and {u}.|Is {t} better than {u}?|Define {t}.
Teach me {t}.|When was {t} discovered?|Should I study {t} or {u}?|How much does {t} cost?|What is the opposite of {t}?
Can you write about {t}?|I like {t}.|Do you know {t}?|My sister loves {t}.|Plan a trip to see {t}.|I am sad about {t}.
Write a haiku about {t}.|How is {t} made?|Who is the king of {t}?|Play {t} with me.|Help me with {t}.|Spell {t}.
Name a song about {t}.|Correct my text about {t}.|Make a list of {t}.|Write an email on {t}.|What can I do with {t}?
Read about {t}.|Show me {t}.|Find {t}.|Buy {t}.|Sell {t}.|What colour is {t}?|Where is {t}?|Who likes {t}?
Is {t} good?
Write about {t} and {u}.|Which is better, {t} or {u}?|Tell me the story of {t}.|How old is {t}?
What makes {t} special?
Give me advice on {t}.|Make a poem of {t}.|I hate {t}.|I want {t}.|Have you seen {t}?|How can I make {t}?
Talk about {t}.
""")

THINGS = entries("""
the sea|quantum physics|machine learning|a dragon|bread|the moon|cats|dogs|football|chess|poetry|the economy|gravity
Paris|Rome|Japan|the brain|black holes|coffee|tea|music|the internet|democracy|winter|love|war|peace|history|biology
chemistry|a computer|transformers|neural networks|the universe|evolution|trees|rivers|mountains|cheese|wine|the law
medicine|a bicycle|trains|ships|robots|art|dance|cooking|gardens|bees|horses|fish|birds|snow|rain|money|gold|diamonds
photosynthesis|volcanoes|the Romans|Napoleon|Shakespeare|Einstein|Mozart|climate change|vaccines|electricity|time
grammar|philosophy|religion|sleep|dreams|happiness|fear|school|teachers|parents|friends|holidays|Christmas|pizza
chocolate|bananas|the sun|stars|rockets|Mars|dinosaurs|whales|insects|plants|flowers|roses|cars|batteries|solar power
blockchain|Python|Rust|compilers|databases|operating systems|encryption|statistics|geometry|algebra|calculus|maps
""")

NUMBERED = entries("""
What happened in {n}?|Who was king in {n}?|Name {m} colours.|Write {m} lines about {t}.|Give me {m} ideas for {t}.
What happened between {n} and {p}?|Is {n} a prime number?|Write a story in {n} words.
How far is {n} miles in kilometres?
Tell me {m} facts about {t}.|Who won the world cup in {n}?|I was born in {n}.|Convert {m} degrees to Fahrenheit.
What is the square root of {n}?|What are the factors of {n}?|Write {n} in Roman numerals.|My phone number is {n} {p}.
Is {n} larger than {p}?|Which is bigger, {n} or {p}?|Set a timer for {m} minutes.|Count from {m} to {n}.|{n}
What is the year after {n} called?|Choose a number between {m} and {n}.|How old is someone born in {n}?|Route {n}
Translate {n} to French.|Room {m}, please.|Play song {m}.|What is {m} percent of {n}?|{m}% of {n}|{n}, {p}
What is {m} squared?|{m}^{k}|{m} to the power of {k}|What is {n} mod {m}?|Sort {n}, {p} and {m}.|{n} or {p}?
What is the average of {n} and {p}?|Round {n} to tens.|Is {n} even or odd?|What comes after {n}, {p}?|sqrt({n})
{m}!|log({n})|What is half of {n}?|Double {n}.|{n} {p}|The numbers are {n} and {p}.|Flight {n} leaves at {m}.
{m} to the {k}|{m} raised to {k}|Raise {m} to the power {k}.|The power of {m} and {k}|{m} cubed|Square {m}.
The square of {m}
Factors of {n}|Factor {n}.|Is {n} divisible by {m}?|Prime factors of {n}?|Root of {n}|The root of {n}?
Logarithm of {n}
What percentage of {n} is {m}?|Give me {m} percent of {n}.|Take {m} percent off {n}.|Average {n} and {p}.
Mean of {n}, {p}
The larger of {n} and {p}?|Compare {n} and {p}.|Is {n} smaller than {p}?|Order {n}, {p}, {m}.
Biggest of {n}, {p}, {m}?
Numbers from {m} to {n}|Say {n}.|Repeat {n}.|Read {n} aloud.|Write {n} in words.|Spell {n}.|Round {n}.|Half of {n}
Halve {n}.|Triple {n}.|{n}?|{n}!|Page {n}|Call {n}.|It is {m} degrees.|I am {m} years old.|Year {n}
In {n}, what was new?
Convert {n} metres to feet.|{m} inches in cm|{n} dollars in euros?|What time is it in {m} minutes?|Wake me at {m}.
print({n})|x = {n}|f({m})|a[{m}]|if x > {n}: pass|SELECT {m} FROM t|for i in range({m}): pass|WHERE id = {m}|sleep {m}
What is the larger of {n} and {p}?|Which one is larger, {n} or {p}?|The smaller of {n} and {p}
The bigger one of {n} and {p}
Find the larger number: {n}, {p}|{n} euros in dollars|Convert {n} dollars.|How many euros are {n} dollars?
{n} pounds in kilos?
Calculate {m} percent of {n}|What is {n} plus {m} percent?|{m} % of {n} =|How much is {m}% of {n}?|{n} times itself
The cube of {m}|What is {m} cubed?|Log of {n}|ln({n})|sin({m})|cos {m}|exp({m})|abs({n})|max({n}, {p})|min({n}, {p})
Is {n} prime?|Is {n} a multiple of {m}?|Does {m} divide {n}?|The digits of {n}|Reverse {n}.|How many digits has {n}?
What is {n}?|What about {n}?|And {n}?|Why {n}?|{n} please|Number {n}|Add {n}.|Subtract {n}.|Multiply by {m}.|{n} +
- {n}
""")

FOREIGN = entries("""
Bonjour|Guten Tag|Hola|Buenos días|Ciao|こんにちは|你好|안녕하세요|Привет|مرحبا|नमस्ते|Olá|Hej|Merhaba|Γειά σου|Cześć
Wie geht es dir?|Comment ça va?|¿Cómo estás?|Come stai?|Как дела?|你叫什么名字?|元気ですか
Was ist die Hauptstadt von Spanien?
Quelle heure est-il?|¿Dónde está la biblioteca?|Erzähl mir einen Witz.|Raconte-moi une histoire.|Cuéntame un chiste.
Schreibe ein Gedicht.|Que penses-tu de la vie?|Warum ist der Himmel blau?|Pourquoi le ciel est bleu?|¿Por qué?
今日は何曜日ですか|天气怎么样?|오늘 날씨 어때?|Какая сегодня погода?|Wer bist du?|Qui es-tu?|¿Quién eres?|Chi sei?
Ich habe Hunger.|J'aime le chocolat.|Me gusta el sol.|Mi piace la pasta.|Danke schön|Merci beaucoup|Muchas gracias
Hvad hedder du?|Wat is dit?|Jak się masz?|Nasılsın?|Vad heter du?|Mitä kuuluu?|Ce faci?|Kolik je hodin?|Τι κάνεις;
Wieviel kostet das Brot?|Combien coûte le pain?|¿Cuánto cuesta el pan?|Bitte hilf mir.|Aidez-moi, s'il vous plaît.
Salut|Hallo|Buongiorno|Bom dia|Namaste|Konnichiwa|Salam|Shalom|Ahoj|Servus|Moin|Hei|Aloha|Здравствуйте|你好吗
السلام عليكم
Come va?|Wie geht's?|Ça va?|Qué tal?|Come ti chiami?|Wie heißt du?|Comment t'appelles-tu?|¿Cómo te llamas?|Что это?
Где ты?
Wie spät ist es?|Che ore sono?|¿Qué hora es?|Dove sei?|Où es-tu?|Wo bist du?|Parli italiano?|Sprichst du Deutsch?
Je t'aime
""")

CODE = (
    "print('hello')", "def f(x): return x", "Write a Python function to sort a list.", "for i in range(10): print(i)",
    "int main() { return 0; }", "SELECT * FROM users;", "Fix my code.", "What does this code do? x = y + z",
    "import os",
    "git commit -m 'fix'", "let x = 5;", "console.log(a + b)", "<html><body></body></html>", "ls -la /home",
    "sudo rm x",
    "while True: pass", "Write a regex for an email address.", "How do I reverse a string in C?", "class A: pass",
    "fn main() {}", "x = [1, 2, 3]", "{\"a\": 1}", "Explain this error: NameError", "How do I exit vim?",
    "npm install",
    "Write a web server in Rust.", "#include <stdio.h>", "return a + b", "if (x > 3) y = 2;", "echo hello", "cd ..",
    "Convert this to Java.", "Write a unit test for my function.", "Why is my program slow?", "echo $HOME",
    "make all",
    "What is a pointer?", "a[i] = b[i] + c[i]", "public static void main", "SELECT name FROM t WHERE id = 7",
    "pip list",
    "echo", "echo $PATH", "ls", "pwd", "cat file", "DELETE FROM users;", "x += 1", "y = f(x)", "goto end",
    "def main():",
    "SELECT id FROM t WHERE a = 3", "const x = 1;", "cat a | sort", "top", "exit", "import sys", "from a import b",
)

WORDS = tuple("""
the of and to in is you that it he was for on are as with his they at be this have from or one had by word but not
what
all were we when your can said there use an each which she do how their if will up other about out many then them
these so
some her would make like him into time has look two more write go see number no way could people my than first water
been
call who oil its now find long down day did get come made may part over new sound take only little work know place
year
live me back give most very after thing our just name good sentence man think say great where help through much
before line
right too mean old any same tell boy follow came want show also around form three small set put end does another
well large
must big even such because turn here why ask went men read need land different home us move try kind hand picture
again
change off play spell air away animal house point page letter mother answer found study still learn should world city
country history queen dog music science computer language book paper food car train ship star sun moon tree river
red blue
green happy sad fast slow today tomorrow sum total plus minus times add calculator apples coins left
difference""".split())
