"""base"""
from specialm.config import default


def get_config():
    config = default()
    config.clustering.encoder = "tfidf_svd"
    return config
