// Package demo makes, on the spot, a language model and a text to fine-tune it
// on, so that everything can be shown and tested without a download.
//
// The text is the standard library of the Python that does the work: the
// source of its functions and classes, and their docstrings. The model is a
// small llama trained from scratch on that source. It is a real language model
// in the sense that matters here: it predicts unseen text clearly better than
// the best guess that ignores context, and it has never seen a chat template,
// so that fine-tuning on completions has something to teach it.
//
// Nothing binary is kept with the code, and the same Python makes the same
// text, tokenizer and first weights. Small is the same to the last bit on one
// machine; Full depends on how many BLAS threads there were idle cores for, and
// a machine that is too slow or too busy for all steps stops earlier.
package demo
