"""Jobs over folders of Parquet shards: embed items, tokenize them, recommend to users.

Each job turns every input shard into one output shard of the same name, in this process or on the
workers of a Ray cluster; both run the same code on the same shards.
"""

from hidvae.apps.batch.embed_shards import embed_shards
from hidvae.apps.batch.recommend_shards import recommend_shards
from hidvae.apps.batch.tokenize_shards import tokenize_shards
from hidvae.apps.batch.workers import Workers

__all__ = ["Workers", "embed_shards", "recommend_shards", "tokenize_shards"]
