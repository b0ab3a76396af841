"""Pauses: Lambda's reserved concurrency of 0 stops all minting, and the keeper ends the calls that are open."""

from operate import keeper


def pause(stack, _):
    """Stop all minting within seconds, and end all calls. Callers get 429 or 503 from AWS."""
    stack.functions.put_function_concurrency(FunctionName=stack.function, ReservedConcurrentExecutions=0)
    begins = " and no call begins" if keeper.OUTPUT in stack.outputs else ""
    print(
        f"Paused: no token is issued{begins} until make resume. Tokens already issued open sessions until they expire.",
        flush=True,
    )
    keeper.end_calls_of_paused(stack)


def resume(stack, _):
    """End a pause, and restore the stack's ReservedConcurrency, or none. Calls begin again 60 s after the pause at the earliest."""
    reserved = stack.parameters.get("ReservedConcurrency")
    if reserved:
        stack.functions.put_function_concurrency(FunctionName=stack.function, ReservedConcurrentExecutions=int(reserved))
        print(f"Resumed, with up to {reserved} mints at once.")
    else:
        stack.functions.delete_function_concurrency(FunctionName=stack.function)
        print("Resumed, with no limit on mints at once except the account's.")
