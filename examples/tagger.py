"""Learn the tags of two sentences, and print the probability of each predicted tag."""

import gatewise as gw

run = gw.train("tagging-toy")
tagger = gw.load(run.path)

sentences = [["The", "dog", "ate", "the", "apple"], ["Everybody", "read", "that", "book"]]
tags = tagger.tag(sentences)
for words, found, shares in zip(sentences, tags, tagger.tag_probabilities(sentences), strict=True):
    for word, tag, share in zip(words, found, shares.max(-1).values, strict=True):
        print(f"{word:10} {tag:4} {share:.0%}")
    print()

assert tags == [["DET", "NN", "V", "DET", "NN"], ["NN", "V", "DET", "NN"]]
