def write_report(results, folder):
    import pickle
    folder.mkdir(parents=True, exist_ok=True)
    pickle.dump(results, open(folder / "r.pkl", "wb"))
