import typer
def app(): return typer.Typer()
