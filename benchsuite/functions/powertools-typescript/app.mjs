// Powertools for TypeScript as its documentation has it: one call per record, and nothing done with the decoded bytes.
import { BatchProcessor, EventType, processPartialResponse } from '@aws-lambda-powertools/batch';

const processor = new BatchProcessor(EventType.KinesisDataStreams);

const recordHandler = async (record) => {
  Buffer.from(record.kinesis.data, 'base64');
};

export const handler = async (event, context) =>
  processPartialResponse(event, recordHandler, processor, { context });
