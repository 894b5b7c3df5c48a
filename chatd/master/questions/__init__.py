"""What an operator asks of the workers, through the master.

Owns: one module for each kind of question, and asking workers (master.questions.asking), which all of them use.
Elsewhere: requests that the master itself carries out (master.master).
"""
