"""What an operator asks of the workers, through the master.

Owns: lists of clients, tracing, and asking every worker of the host.
Elsewhere: questions that one worker answers for all (master.worker_questions), kicks (master.kick).
"""
