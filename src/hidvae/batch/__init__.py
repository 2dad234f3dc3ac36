"""Jobs over folders of Parquet shards: embed items, tokenize them, recommend to users.

Each job turns every input shard into one output shard of the same name, in this process or on the
workers of a Ray cluster; both run the same code on the same shards.
"""

from hidvae.batch.embed import embed_shards
from hidvae.batch.recommend import recommend_shards
from hidvae.batch.tokenize import tokenize_shards
from hidvae.batch.workers import Workers

__all__ = ["Workers", "embed_shards", "recommend_shards", "tokenize_shards"]
