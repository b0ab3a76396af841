"""Pauses: Lambda's reserved concurrency of 0 stops all minting."""


def pause(stack, _):
    """Stop all minting within seconds. Callers get 429 or 503 from AWS."""
    stack.functions.put_function_concurrency(FunctionName=stack.function, ReservedConcurrentExecutions=0)
    print("Paused: no token is issued until make resume. Tokens already issued open sessions until they expire.")


def resume(stack, _):
    """End a pause, and restore the stack's ReservedConcurrency, or none."""
    reserved = stack.parameters.get("ReservedConcurrency")
    if reserved:
        stack.functions.put_function_concurrency(FunctionName=stack.function, ReservedConcurrentExecutions=int(reserved))
        print(f"Resumed, with up to {reserved} mints at once.")
    else:
        stack.functions.delete_function_concurrency(FunctionName=stack.function)
        print("Resumed, with no limit on mints at once except the account's.")
