//! The 27 properties of 5.0: what each is made of, and which packets may carry it.
